"""Class matching of the published 2D evaluation: synonyms, and texts that mention a class."""
