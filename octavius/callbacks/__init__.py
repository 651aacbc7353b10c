"""Lightning callbacks: evaluation, checkpoints, stopping, and reports about routing, answers and cost."""
