"""The miniature's rooms: synthetic furnished rooms, scanned and described, in layouts of real data sets."""
