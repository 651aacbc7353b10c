"""Configuration files on top of jsonargparse: strict reading, merging rules, and limits for untrusted ones."""
