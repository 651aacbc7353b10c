"""Texts about rooms: descriptions, questions and answers, and exercises."""
