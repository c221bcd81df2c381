-- Changes whenever a row of the contacts, their handles or the accounts is inserted, updated or deleted.
SELECT md5(concat_ws(
    ' ',
    (SELECT concat(count(*), ' ', sum(hashtidextended(ctid, xmin::text::bigint))) FROM contact_store.accounts),
    (SELECT concat(count(*), ' ', sum(hashtidextended(ctid, xmin::text::bigint))) FROM contact_store.contacts),
    (SELECT concat(count(*), ' ', sum(hashtidextended(ctid, xmin::text::bigint))) FROM contact_store.contact_handles)
)) AS fingerprint
