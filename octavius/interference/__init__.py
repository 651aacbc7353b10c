"""The command `octavius interference`: conflicts between the gradients of tasks, and the use of the experts."""
