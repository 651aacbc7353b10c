"""Files of picture data sets come in, samples about pictures go out; one reader a data set."""
