"What the store is made of: rows, the writer thread, the life cycle, reading."
