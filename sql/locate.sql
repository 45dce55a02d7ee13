-- The address (file number, row number) of every live row whose key a net change names, with the number of that change.
-- NULL matches NULL. The changes stand first because the first side is the one that is hashed.
-- same_key: for each key column (c."k" IS NOT DISTINCT FROM t."k"), joined by AND; the parentheses matter.
-- first: the first column of the key. may_be_among says whether it is among those of the changes, as far as that is cheap
-- to tell; what is not has no need to be looked up.
SELECT t."file ", t."row ", c."change "
FROM changes c
JOIN target t ON {same_key}
WHERE may_be_among(t.{first})
