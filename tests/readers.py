"""Reads a Delta table with engines that are not lakemerge's own, and prints one JSON document.

    readers.py rows    URI COLUMNS            every row: {"deltalake": [[text, ...], ...], "polars": ..., "duckdb": ...}
    readers.py find    URI COLUMNS COLUMN VALUE   the same, of the rows where COLUMN = VALUE (the engines may skip files)
    readers.py compact URI                    rewrites small files into larger ones, as another writer would: {"version": 7}
    readers.py compact-late URI FOLDER COMMAND...  the same, but after it has opened the table it runs COMMAND in FOLDER
    readers.py compact-with-filters URI       the same, with Bloom filters on all columns
    readers.py create  URI ROWS               a table of numbers and days, [[number, "2024-01-31"], ...], both NOT NULL
    readers.py describe URI [NAME]            gives the table that name, description, comment and other properties; what it then has
    readers.py delete  URI CONDITION          a foreign DELETE: {"version": 7}
    readers.py restore URI VERSION            RESTORE to a version: {"version": 7}

COLUMNS is a JSON array of names. Values come as text, each type in one form (see `text`), NULL as null. S3 is reached
as the AWS_* environment variables say.
"""

import datetime
import decimal
import json
import os
import subprocess
import sys

import deltalake
import duckdb
import polars
import pyarrow
from duckdb_extensions import import_extension


def text(value):
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (datetime.date, int, float)):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no text form here")


def rows(table, columns):
    lists = [table.column(name).to_pylist() for name in columns]
    return [[text(value) for value in row] for row in zip(*lists)]


def storage_options():
    options = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    if options.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    return options


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def arrow_type(uri, column):
    return pyarrow.schema(open_table(uri).schema().to_arrow()).field(column).type


def open_table(uri):
    return deltalake.DeltaTable(uri, storage_options=storage_options())


def literal(kind, value, of_bytes):
    """The value as SQL that both DataFusion and DuckDB take for the column's own type, but for how each writes bytes."""
    if pyarrow.types.is_binary(kind):
        return of_bytes.format(value)
    string = "'" + value.replace("'", "''") + "'"
    if pyarrow.types.is_decimal(kind):
        return f"CAST({string} AS DECIMAL({kind.precision}, {kind.scale}))"
    if pyarrow.types.is_timestamp(kind):
        return f"CAST({string} AS TIMESTAMP{' WITH TIME ZONE' if kind.tz else ''})"
    if pyarrow.types.is_date(kind):
        return f"CAST({string} AS DATE)"
    return value if pyarrow.types.is_integer(kind) else string


def read_deltalake(uri, columns, condition):
    builder = deltalake.QueryBuilder().register("t", open_table(uri))
    names = ", ".join(map(quoted, columns))
    return pyarrow.table(builder.execute(f"SELECT {names} FROM t {condition}").read_all())


def read_polars(uri, columns, where):
    frame = polars.scan_delta(uri, storage_options=storage_options())
    if where is not None:
        column, kind, value = where
        if pyarrow.types.is_decimal(kind):
            value = polars.lit(decimal.Decimal(value), dtype=polars.Decimal(kind.precision, kind.scale))
        elif pyarrow.types.is_timestamp(kind):
            moment = datetime.datetime.fromisoformat(value)
            if kind.tz:
                moment = moment.replace(tzinfo=datetime.timezone.utc)
            value = polars.lit(moment)
        elif pyarrow.types.is_date(kind):
            value = polars.lit(datetime.date.fromisoformat(value))
        elif pyarrow.types.is_integer(kind):
            value = polars.lit(int(value))
        elif pyarrow.types.is_binary(kind):
            value = polars.lit(bytes.fromhex(value))
        else:
            value = polars.lit(value)
        frame = frame.filter(polars.col(column) == value)
    return frame.select(columns).collect().to_arrow()


def read_duckdb(uri, columns, condition):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    import_extension("delta", con=connection)
    if uri.startswith("s3://"):
        import_extension("httpfs", con=connection)
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        connection.execute(
            "CREATE SECRET (TYPE s3, KEY_ID $key, SECRET $secret, REGION $region, ENDPOINT $endpoint,"
            " URL_STYLE 'path', USE_SSL $ssl)",
            {
                "key": os.environ["AWS_ACCESS_KEY_ID"],
                "secret": os.environ["AWS_SECRET_ACCESS_KEY"],
                "region": os.environ["AWS_REGION"],
                "endpoint": endpoint.split("://", 1)[1],
                "ssl": endpoint.startswith("https://"),
            },
        )
    names = ", ".join(map(quoted, columns))
    return connection.execute(f"SELECT {names} FROM delta_scan($uri) {condition}", {"uri": uri}).to_arrow_table()


def create(uri, rows):
    schema = pyarrow.schema(
        [
            pyarrow.field("id", pyarrow.int32(), nullable=False),
            pyarrow.field("day", pyarrow.date32(), nullable=False),
        ]
    )
    days = [{"id": number, "day": datetime.date.fromisoformat(day)} for number, day in rows]
    deltalake.write_deltalake(uri, pyarrow.Table.from_pylist(days, schema), storage_options=storage_options())
    return {"version": open_table(uri).version()}


def describe(table, uri, name=None):
    if name is not None:
        table.alter.set_table_name(name)
        table.alter.set_table_description(name)
        table.alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 30 days"})
        for field in table.schema().fields:
            table.alter.set_column_metadata(field.name, {"comment": name})
    table = open_table(uri)
    found = table.metadata()
    ours = ("lakemerge.", "delta.dataSkippingStatsColumns")
    return {
        "id": str(found.id),
        "name": found.name,
        "description": found.description,
        "properties": {key: value for key, value in found.configuration.items() if not key.startswith(ours)},
        "not null": [field.name for field in table.schema().fields if not field.nullable],
        "comments": {field.name: field.metadata.get("comment") for field in table.schema().fields},
    }


def main(command, uri, *rest):
    if command in ("rows", "find"):
        columns = json.loads(rest[0])
        where = None
        if command == "find":
            column, value = rest[1:]
            where = (column, arrow_type(uri, column), value)

        def condition(of_bytes):
            return f"WHERE {quoted(where[0])} = {literal(*where[1:], of_bytes)}" if where else ""

        return {
            "deltalake": rows(read_deltalake(uri, columns, condition("X'{}'")), columns),
            "polars": rows(read_polars(uri, columns, where), columns),
            "duckdb": rows(read_duckdb(uri, columns, condition("from_hex('{}')")), columns),
        }
    if command == "create":
        return create(uri, json.loads(rest[0]))
    table = open_table(uri)
    if command == "compact":
        table.optimize.compact()
    elif command == "compact-with-filters":
        filters = deltalake.BloomFilterProperties(set_bloom_filter_enabled=True)
        columns = deltalake.ColumnProperties(bloom_filter_properties=filters)
        table.optimize.compact(writer_properties=deltalake.WriterProperties(default_column_properties=columns))
    elif command == "compact-late":
        subprocess.run(rest[1:], cwd=rest[0], check=True, capture_output=True)
        try:
            table.optimize.compact()
        except deltalake.exceptions.CommitFailedError as error:
            return {"error": str(error)}
    elif command == "describe":
        return describe(table, uri, *rest)
    elif command == "delete":
        table.delete(rest[0])
    elif command == "restore":
        table.restore(int(rest[0]))
    else:
        raise SystemExit(__doc__)
    return {"version": open_table(uri).version()}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
