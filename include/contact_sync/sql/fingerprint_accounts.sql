-- Changes whenever a row of the accounts or their domains is inserted, updated or deleted.
SELECT md5(concat_ws(
    ' ',
    (SELECT concat(count(*), ' ', sum(hashtidextended(ctid, xmin::text::bigint))) FROM contact_store.accounts),
    (SELECT concat(count(*), ' ', sum(hashtidextended(ctid, xmin::text::bigint))) FROM contact_store.account_domains)
)) AS fingerprint
