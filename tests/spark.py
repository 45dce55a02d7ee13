"""Spark + Delta, the reference implementation, beside lakemerge on the same tables. Not part of `./test`, because it needs
Java 17 and downloads 400 MB:

    python3 tests/spark.py LAKEMERGE          # LAKEMERGE: the binary, such as target/debug/lakemerge

It makes a virtual environment with pyspark and fetches the two jars of Delta with Maven into
${LAKEMERGE_CACHE:-~/.cache/lakemerge}/spark. Then, for each table type, it merges random changes run by run, with
`maintain` and a checkpoint in between, and after each run compares the rows that Spark reads with a model. At last Spark
itself writes: after its OPTIMIZE lakemerge goes on, after its DELETE lakemerge refuses until it is told what that means.
"""

import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

CACHE = pathlib.Path(os.environ.get("LAKEMERGE_CACHE", pathlib.Path.home() / ".cache/lakemerge")) / "spark"
DELTA = ["io.delta:delta-spark_2.13:4.0.0", "io.delta:delta-storage:4.0.0"]
SCHEMA = """CREATE TABLE `goods` (`id` bigint unsigned NOT NULL, `name` varchar(40), `price` decimal(12,2), `seen` datetime(6),
 `region` varchar(10), PRIMARY KEY (`id`));\n"""
CONFIG = """[source]
kind = "dms"
url = "raw"
s3_settings = "s3.json"
[lake]
url = "lake"
table_type = "{table_type}"
datetime = "{datetime}"
[run]
maintenance = "off"
[[table]]
name = "shop.goods"
schema = "schema.sql"
{options}
"""


def set_up():
    """Pyspark and Delta's jars, once; then this script again, under that Python."""
    python = CACHE / "venv/bin/python"
    if not python.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", CACHE / "venv"], check=True)
        subprocess.run([CACHE / "venv/bin/pip", "install", "--quiet", "pyspark==4.0.1"], check=True)
    jars = CACHE / "jars"
    jars.mkdir(exist_ok=True)
    for artifact in DELTA:
        group, name, version = artifact.split(":")
        jar = f"{name}-{version}.jar"
        if not (jars / jar).exists():
            subprocess.run(["mvn", "-q", "dependency:get", f"-Dartifact={artifact}", "-Dtransitive=false"], check=True)
            shutil.copy(pathlib.Path.home() / ".m2/repository" / group.replace(".", "/") / name / version / jar, jars)
    if pathlib.Path(sys.executable) != python:
        os.execv(python, [str(python), __file__, *sys.argv[1:]])


def session():
    from pyspark.sql import SparkSession

    jars = ",".join(str(jar) for jar in (CACHE / "jars").iterdir())
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", jars)
        .config("spark.ui.enabled", "false")
        .config("spark.sql.warehouse.dir", tempfile.mkdtemp(prefix="lakemerge-spark-"))
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.databricks.delta.snapshotPartitions", "2")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark


class Job:
    """A source of one table, its lake, and a model of its rows."""

    def __init__(self, binary, table_type, datetime, options):
        self.binary = str(pathlib.Path(binary).resolve())
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lakemerge-spark-"))
        self.random = random.Random(7)
        self.model = {}
        self.files = 0
        (self.folder / "raw/shop/goods").mkdir(parents=True)
        (self.folder / "s3.json").write_text('{"IncludeOpForFullLoad": true}')
        (self.folder / "schema.sql").write_text(SCHEMA)
        (self.folder / "lakemerge.toml").write_text(CONFIG.format(table_type=table_type, datetime=datetime, options=options))

    @property
    def table(self):
        return str(self.folder / "lake/shop/goods")

    def lakemerge(self, *args, exits=0):
        done = subprocess.run([self.binary, *args], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == exits, f"{args} exited {done.returncode}: {done.stderr}"
        return done.stderr

    def row(self, key):
        pick = self.random
        micros = pick.choice(["000000", "123456", "999999"])
        return [
            str(key),
            pick.choice(["Île", "a b", "x", "", "日本"]),
            f"{pick.randrange(10**9)}.{pick.randrange(100):02d}",
            f"{pick.choice([1950, 2010, 2029, 2300, 9999])}-02-28 23:59:59.{micros}",
            pick.choice(["north", "España", "日 本"]),
        ]

    def write(self, name, records):
        text = "".join(",".join(record) + "\n" for record in records)
        (self.folder / "raw/shop/goods" / name).write_text(text)

    def load(self, rows):
        records = [["I", *self.row(key)] for key in [*range(rows), 2**64 - 1]]
        self.model = {record[1]: record[1:] for record in records}
        self.write("LOAD00000001.csv", records)

    def change(self, count):
        records = []
        for _ in range(count):
            key = self.random.randrange(400)
            row = self.row(key)
            if str(key) not in self.model:
                records.append(["I", *row])
            elif self.random.random() < 0.3:
                records.append(["D", *self.model[str(key)]])
                del self.model[str(key)]
                continue
            else:
                records.append(["U", *row])
            self.model[str(key)] = row
        self.files += 1
        self.write(f"20240101-{self.files:06d}000.csv", records)

    def expected(self):
        # a text column that may be NULL has no empty text in CSV
        return sorted([value or None for value in row] for row in self.model.values())


def rows(spark, table):
    frame = spark.read.format("delta").load(table)
    frame = frame.selectExpr("cast(id as string)", "name", "cast(price as string)", "date_format(seen, 'yyyy-MM-dd HH:mm:ss.SSSSSS')", "region")
    return sorted(list(row) for row in frame.collect())


def check(what, found, expected):
    print("ok  " if found == expected else "FAIL", what, flush=True)
    if found != expected:
        missing = [row for row in expected if row not in found][:3]
        sys.exit(f"{len(found)} rows instead of {len(expected)}; missing {missing}")


def found_by_key(spark, table):
    return spark.sql(f"SELECT count(*) FROM delta.`{table}` WHERE id = 18446744073709551615").collect()[0][0]


def main(binary):
    spark = session()
    for table_type, datetime, partition_by in [
        ("copy-on-write", "timestamp", ""),
        ("copy-on-write", "timestamp", "region"),
        ("merge-on-read", "timestamp_ntz", ""),
        ("merge-on-read", "timestamp", "region"),
        ("merge-on-read", "timestamp", "seen"),
    ]:
        options = f'partition_by = ["{partition_by}"]' if partition_by else ""
        job = Job(binary, table_type, datetime, options)
        what = f"{table_type}{f', partitioned by {partition_by}' if partition_by else ''}"
        job.load(300)
        job.lakemerge("run")
        check(f"{what}: the load", rows(spark, job.table), job.expected())
        check(f"{what}: a key beyond 2^63 is found", found_by_key(spark, job.table), 1)
        for i in range(6):
            job.change(40)
            job.lakemerge("run")
            check(f"{what}: run {i}", rows(spark, job.table), job.expected())
            if i == 3:
                job.lakemerge("maintain")
                check(f"{what}: maintain and its checkpoint", rows(spark, job.table), job.expected())
        spark.sql(f"OPTIMIZE delta.`{job.table}`")
        job.change(40)
        job.lakemerge("run")
        check(f"{what}: a run after Spark's OPTIMIZE", rows(spark, job.table), job.expected())
        spark.sql(f"DELETE FROM delta.`{job.table}` WHERE id = 18446744073709551615")
        job.change(10)
        said = job.lakemerge("run", exits=1)
        check(f"{what}: Spark's DELETE is noticed", "DELETE" in said and "--adopt" in said, True)
        del job.model[str(2**64 - 1)]
        job.lakemerge("run", "--adopt", "shop.goods")
        check(f"{what}: a run that takes the DELETE as it is", rows(spark, job.table), job.expected())
        shutil.rmtree(job.folder)
    print("all ok")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    set_up()
    main(sys.argv[1])
