"""Detection metrics: recall and precision, VOC and COCO average precision, 3D mAP."""
