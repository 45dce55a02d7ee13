-- As net.sql, for tables in which deleted rows stay: beside the last change of each key also the last one that is no
-- delete, which holds the row as it was when it was deleted; NULL where the batch holds nothing but deletes.
-- {key}: the key columns.
SELECT max("__change") AS "__change", max("__change") FILTER (WHERE NOT "__delete") AS "__image"
FROM changes
GROUP BY {key}
