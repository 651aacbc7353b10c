"""Files of many data sets come in, `Sample`s and the loaders over them go out; the left half of the road."""
