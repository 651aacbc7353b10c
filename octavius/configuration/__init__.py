"""Reading, merging and trusting configurations, on top of jsonargparse."""
