"""Generation of instruction data from COCO or ScanNet annotations, by templates or with a language model."""
