-- Changes whenever a row of the contacts, their handles or the accounts is inserted, updated or deleted; and how many
-- contacts and handles there are.
SELECT
    md5(concat_ws(
        ' ', accounts.count, accounts.versions, contacts.count, contacts.versions, handles.count, handles.versions
    )) AS fingerprint,
    contacts.count AS records,
    handles.count AS handles
FROM
    (SELECT count(*), sum(hashtidextended(ctid, xmin::text::bigint)) AS versions FROM contact_store.accounts) AS accounts,
    (SELECT count(*), sum(hashtidextended(ctid, xmin::text::bigint)) AS versions FROM contact_store.contacts) AS contacts,
    (SELECT count(*), sum(hashtidextended(ctid, xmin::text::bigint)) AS versions FROM contact_store.contact_handles) AS handles
