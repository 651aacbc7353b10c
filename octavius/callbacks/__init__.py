"""What happens around training: evaluation in text, routing reports, sample answers."""
