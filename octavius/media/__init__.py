"""Files of images and point clouds, and the tensors that are read from them."""
