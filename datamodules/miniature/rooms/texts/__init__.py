"""Texts about rooms: descriptions, questions with answers, and auxiliary exercises for the language model."""
