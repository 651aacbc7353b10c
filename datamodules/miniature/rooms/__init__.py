"""The rooms: a small seeded world of furnished rooms, scanned, told, and written in real data sets' layouts."""
