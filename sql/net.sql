-- The number of the last change of each key in a batch: what is left when every change that a later one of the same row
-- outdates is netted away. A change's number is its place in the source's order, so there are no ties.
-- {key}: the key columns.
SELECT max("__change") AS "__change"
FROM changes
GROUP BY {key}
