"""What the published evaluation of images compares: words for one class, and texts that mention one."""
