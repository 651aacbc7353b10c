"""Files of point-cloud data sets come in, samples about scans and objects go out; one reader a data set."""
