"""Reads a folder of collected rows with pyarrow and says in JSON what it found: python parquet_reader.py FOLDER."""

import json
import sys

import pyarrow
import pyarrow.dataset
import pyarrow.parquet


def main():
    """Counts rows by partition, and looks at the first list column of the first file."""
    folder = sys.argv[1]
    # The way of pandas and of scripts: the folders become columns, in dictionaries.
    table = pyarrow.parquet.read_table(folder)
    # The way of datasets: each file on its own, so that versions with other tensors read too.
    files = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").get_fragments()
    partitions = {}
    lists = []
    for fragment in files:
        keys = pyarrow.dataset.get_partition_keys(fragment.partition_expression)
        name = f"{keys['model']}:{keys['version']} {keys['date']}"
        read = pyarrow.parquet.ParquetFile(fragment.path).read()
        partitions[name] = partitions.get(name, 0) + read.num_rows
        for field in read.schema:
            if pyarrow.types.is_list(field.type):
                column = read[field.name]
                lengths = sorted({len(value) for value in column.to_pylist()})
                lists.append({"column": field.name, "type": str(field.type), "rows": len(column), "lengths": lengths})
    identities = zip(*(table[name].to_pylist() for name in ("device", "outbox", "sequence")))
    found = {
        "rows": table.num_rows,
        "distinct": len(set(identities)),
        "columns": {field.name: str(field.type) for field in table.schema},
        "partitions": dict(sorted(partitions.items())),
        "list": lists[0] if lists else None,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
