"""Pre-training of the models for which there are no published weights, one module per kind."""
