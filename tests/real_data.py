"""The hand trial on real inputs, which are not in the repository:

    <cache>/venv/bin/python tests/real_data.py DATA LAKEMERGE

DATA holds `dms-mysql-sample/` (files of a real DMS) and `fossil/energy.sql` with `fossil/table-mappings.json` (a mysqldump
of the article's database). The dump's INSERTs become LOAD files as DMS would write them, and the article's changes become
change files. Then the binary LAKEMERGE runs on local folders and on a private MinIO, and each check prints a line.
`./test` installs Python's packages and MinIO into <cache> (${LAKEMERGE_CACHE:-~/.cache/lakemerge}).
"""

import csv
import io
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

CACHE = pathlib.Path(os.environ.get("LAKEMERGE_CACHE", pathlib.Path.home() / ".cache/lakemerge"))
READERS = pathlib.Path(__file__).with_name("readers.py")
KEYS = {"fossil": ["Entity", "Year"], "classicmodels": ["customerNumber"]}
CUSTOMERS = """CREATE TABLE `customers` (
  `customerNumber` int(11) NOT NULL,
  `customerName` varchar(50) NOT NULL,
  `contactLastName` varchar(50) NOT NULL,
  `contactFirstName` varchar(50) NOT NULL,
  `phone` varchar(50) NOT NULL,
  `addressLine1` varchar(50) NOT NULL,
  `addressLine2` varchar(50) DEFAULT NULL,
  `city` varchar(50) NOT NULL,
  `state` varchar(50) DEFAULT NULL,
  `postalCode` varchar(15) DEFAULT NULL,
  `country` varchar(50) NOT NULL,
  `salesRepEmployeeNumber` int(11) DEFAULT NULL,
  `creditLimit` decimal(10,2) DEFAULT NULL,
  PRIMARY KEY (`customerNumber`)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
"""
failed = 0


def check(what, found, expected):
    global failed
    good = found == expected
    failed += not good
    print(f"{'ok  ' if good else 'FAIL'} {what}" + ("" if good else f": {found!r} instead of {expected!r}"), flush=True)


# The source, as DMS would have written it


def dump_rows(sql):
    """Table and rows of each INSERT of a mysqldump; a row's values are text or None."""
    value = re.compile(r"'((?:[^'\\]|\\.|'')*)'|NULL|([^,()]+)", re.S)
    escapes = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "Z": "\x1a"}

    def unescaped(text):
        return re.sub(r"\\(.)|''", lambda m: escapes.get(m[1], m[1]) if m[1] else "'", text, flags=re.S)

    for insert in re.finditer(r"^INSERT INTO `(\w+)` VALUES (.*);$", sql, re.M):
        rows, row, at, text = [], None, 0, insert[2]
        while at < len(text):
            if row is None:
                row = [] if text[at] == "(" else None
                at += 1
            elif text[at] in ",)":
                if text[at] == ")":
                    rows.append(row)
                    row = None
                at += 1
            else:
                match = value.match(text, at)
                row.append(unescaped(match[1]) if match[1] is not None else match[2])
                at = match.end()
        yield insert[1], rows


def dms_csv(records):
    out = io.StringIO()
    for record in records:
        fields = ("" if field is None else field for field in record)
        quoted = ('"' + f.replace('"', '""') + '"' if any(c in f for c in ',"\n') else f for f in fields)
        out.write(",".join(quoted) + "\n")
    return out.getvalue()


def write_fossil(data, raw):
    """Returns each table's rows as the source has them at the end, '' being NULL as DMS's defaults make it."""
    tables = {}
    for table, rows in dump_rows((data / "fossil/energy.sql").read_text("utf-8")):
        tables.setdefault(table, []).extend([None if value == "" else value for value in row] for row in rows)
    for table, rows in tables.items():
        folder = raw / "fossil" / table
        folder.mkdir(parents=True)
        (folder / "LOAD00000001.csv").write_text(dms_csv([["I", *row] for row in rows]), "utf-8", newline="")

    coal = {(row[0], row[2]): row for row in tables["coal_prod"]}
    india = {year: coal.get(("India", year)) for year in ("2010", "2013")}
    changes = {
        "20200808-181512345": [
            ["I", "India", "IND", "2015", "2850.12", "150.34"],
            ["I", "India", "IND", "2016", "2901.00", "151.90"],
        ],
        "20200808-182512345": [
            ["U", *india["2013"][:3], "2845.66", "145.66"],
            ["D", *india["2010"]],
        ],
    }
    for name, records in changes.items():
        (raw / f"fossil/coal_prod/{name}.csv").write_text(dms_csv(records), "utf-8", newline="")
        for op, *row in records:
            coal.pop((row[0], row[2]), None)
            if op != "D":
                coal[row[0], row[2]] = row
    tables["coal_prod"] = list(coal.values())
    return {f"fossil.{table}": rows for table, rows in tables.items()}


def write_customers(data, raw):
    shutil.copytree(data / "dms-mysql-sample/classicmodels", raw / "classicmodels")
    folder = raw / "classicmodels/customers"
    records = {}
    for path in sorted(folder.glob("*.csv"), key=lambda path: (not path.name.startswith("LOAD"), path.name)):
        path.chmod(0o644)
        for row in csv.reader(path.read_text("utf-8").splitlines()):
            op = "I" if path.name.startswith("LOAD") else row.pop(0)
            records.pop(row[0], None)
            if op != "D":
                records[row[0]] = [value or None for value in row]
    return {"classicmodels.customers": list(records.values())}


# Running


class Minio:
    """A private server; its folder goes with it."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lakemerge-minio-"))
        (self.folder / "data/trial").mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        user = {"MINIO_ROOT_USER": "lakemerge", "MINIO_ROOT_PASSWORD": "lakemerge", "MINIO_BROWSER": "off"}
        binary = os.environ.get("LAKEMERGE_MINIO", CACHE / "bin/minio")
        self.process = subprocess.Popen(
            [binary, "server", self.folder / "data", "--quiet", "--address", address],
            env=os.environ | user,
            stdout=open(self.folder / "log", "w"),
            stderr=subprocess.STDOUT,
        )
        self.env = {
            "AWS_ENDPOINT_URL": f"http://{address}",
            "AWS_ACCESS_KEY_ID": "lakemerge",
            "AWS_SECRET_ACCESS_KEY": "lakemerge",
            "AWS_REGION": "us-east-1",
        }
        host, port = address.split(":")
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    break
            time.sleep(0.05)

    def upload(self, folder):
        """LOAD files first, then the change files in order, as DMS wrote them."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.env["AWS_ENDPOINT_URL"],
            aws_access_key_id="lakemerge",
            aws_secret_access_key="lakemerge",
            region_name="us-east-1",
        )
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (not path.name.startswith("LOAD"), path.name)):
            client.upload_file(str(path), "trial", f"raw/dms/{path.relative_to(folder)}")

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


def write_config(folder, raw, lake, schema, tables, settings, schema_sql, mappings):
    folder.mkdir()
    (folder / "s3.json").write_text(json.dumps(settings))
    (folder / "table-mappings.json").write_text(mappings)
    (folder / "schema.sql").write_text(schema_sql, "utf-8")
    text = f"""
[source]
kind = "dms"
url = "{raw}"
s3_settings = "s3.json"
table_mappings = "table-mappings.json"

[lake]
url = "{lake}"
"""
    for table in tables:
        text += f'\n[[table]]\nname = "{table}"\nkey = {json.dumps(KEYS[schema])}\nschema = "schema.sql"\n'
    (folder / "lakemerge.toml").write_text(text)


def trial(where, folder, raw, lake, env, data, expected, binary):
    """The whole way for one database: run, look, run again, look with other engines."""
    schema = next(iter(expected)).split(".")[0]
    env = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")} | env

    def lakemerge(*arguments):
        started = time.monotonic()
        process = subprocess.run([binary, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=600)
        if process.returncode != 0:
            print(process.stderr, file=sys.stderr)
        return process.returncode, process.stdout, time.monotonic() - started

    def query(sql):
        return list(csv.reader(lakemerge("query", sql, "--format", "csv")[1].splitlines()))[1:]

    settings = {
        "ServiceAccessRoleArn": "arn:aws:iam::000000000000:role/dms",
        "BucketFolder": "raw/dms",
        "BucketName": "trial",
        "DataFormat": "csv",
    }
    if schema == "fossil":
        settings["IncludeOpForFullLoad"] = True
        schema_sql = (data / "fossil/energy.sql").read_text("utf-8")
    else:
        schema_sql = CUSTOMERS
    mappings = (data / "fossil/table-mappings.json").read_text().replace('"fossil"', f'"{schema}"')
    write_config(folder, raw, lake, schema, expected, settings, schema_sql, mappings)

    code, _, seconds = lakemerge("run", "--report", "report.json")
    check(f"{where}: {schema}: run exits 0 ({seconds:.1f} s)", code, 0)
    for table, rows in expected.items():
        check(f"{where}: {table}: rows", query(f"SELECT count(*) FROM {table}"), [[str(len(rows))]])
    if schema == "fossil":
        india = "SELECT Year, Production, consumption FROM fossil.coal_prod WHERE Entity = 'India' AND Year "
        check(f"{where}: India 2013 is updated", query(india + "= 2013"), [["2013", "2845.66", "145.66"]])
        check(f"{where}: India 2010 is gone", query(india + "= 2010"), [])
        check(
            f"{where}: India 2015 and 2016 are there",
            query(india + ">= 2015 ORDER BY Year"),
            [["2015", "2850.12", "150.34"], ["2016", "2901.00", "151.90"]],
        )
    else:
        names = "SELECT contactLastName, contactFirstName FROM classicmodels.customers WHERE customerNumber = 497"
        check(f"{where}: customer 497 is the last insert", query(names), [["Mitesh", "Ravatka"]])

    def versions():
        code, status, _ = lakemerge("status", "--format", "json")
        return [(table["table"], table["version"]) for table in json.loads(status)["tables"]] if code == 0 else code

    before = versions()
    code, _, seconds = lakemerge("run", "--report", "again.json")
    check(f"{where}: {schema}: a second run exits 0 ({seconds:.2f} s)", code, 0)
    check(f"{where}: {schema}: a second run makes no version", versions(), before)
    states = [table["state"] for table in json.loads((folder / "again.json").read_text())["tables"]]
    check(f"{where}: {schema}: a second run changes nothing", set(states), {"unchanged"})

    columns = {}
    for match in re.finditer(r"CREATE TABLE `(\w+)` \((.*?)\n\)", schema_sql, re.S):
        columns[f"{schema}.{match[1]}"] = re.findall(r"^  `(\w+)`", match[2], re.M)

    def in_order(rows):
        return sorted(rows, key=lambda row: [(value is None, value or "") for value in row])

    for table, rows in expected.items():
        arguments = [sys.executable, READERS, "rows", f"{lake}/{table.replace('.', '/')}", json.dumps(columns[table])]
        process = subprocess.run(arguments, env=env, capture_output=True, text=True)
        if process.returncode != 0:
            check(f"{where}: {table}: other engines", process.stderr.strip().splitlines()[-1], "rows")
            continue
        for engine, found in json.loads(process.stdout).items():
            found, wanted = in_order(found), in_order(rows)
            differ = [pair for pair in zip(found, wanted) if pair[0] != pair[1]][:2]
            check(f"{where}: {table}: {engine} reads the same rows", (len(found), differ), (len(wanted), []))


def main(data, binary):
    data, binary = pathlib.Path(data).resolve(), pathlib.Path(binary).resolve()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        raw = work / "raw/dms"
        raw.mkdir(parents=True)
        fossil, customers = write_fossil(data, raw), write_customers(data, raw)
        loaded = len((raw / "classicmodels/customers/LOAD00000001.csv").read_text("utf-8").splitlines())
        # The article's counts, with two inserts and one delete in coal_prod; one customer more than in the LOAD file.
        check("fossil's rows", [len(rows) for rows in fossil.values()], [6_282 + 1, 8_782, 4_689, 7_045])
        check("customers' rows", len(customers["classicmodels.customers"]), loaded + 1)
        server = Minio()
        try:
            server.upload(raw)
            for expected in (fossil, customers):
                name = next(iter(expected)).split(".")[0]
                trial("folder", work / f"local-{name}", raw, work / "lake", {}, data, expected, binary)
                trial("bucket", work / f"s3-{name}", "s3://trial/raw/dms", "s3://trial/lake", server.env, data, expected, binary)
        finally:
            server.stop()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
