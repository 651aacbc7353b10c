"""3D object detectors FCAF3D and TR3D, on sparse convolutions."""
