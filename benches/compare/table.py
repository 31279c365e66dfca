"""Rows of figures in a CSV file, added one by one, so that what is done is not done again."""

import csv


class Table:
    def __init__(self, path, key, settings):
        """`key` are the columns that tell rows apart, `settings` what all rows must have been made with."""
        self.path, self.key, self.settings = path, key, settings
        self.rows = read(path)
        for row in self.rows:
            for name, value in settings.items():
                if row[name] != str(value):
                    raise SystemExit(
                        f"{path} was made with {name} {row[name]}, not {value}: "
                        f"go on with that, or remove the file to begin again"
                    )
        self.done = {tuple(row[name] for name in key) for row in self.rows}

    def has(self, **key):
        return tuple(str(key[name]) for name in self.key) in self.done

    def add(self, *rows):
        """All of them, or none."""
        rows = [{**self.settings, **row} for row in rows]
        new = not self.path.exists()
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)
        self.done |= {tuple(str(row[name]) for name in self.key) for row in rows}


def read(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
