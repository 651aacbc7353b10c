"""Object-As-Scene: encodes the objects of a point cloud, and reads them with learned queries as one scene."""
