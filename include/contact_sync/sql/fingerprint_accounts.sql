-- Changes whenever a row of the accounts or their domains is inserted, updated or deleted; and how many there are.
SELECT
    md5(concat_ws(' ', accounts.count, accounts.versions, domains.count, domains.versions)) AS fingerprint,
    accounts.count AS records,
    domains.count AS handles
FROM
    (SELECT count(*), sum(hashtidextended(ctid, xmin::text::bigint)) AS versions FROM contact_store.accounts) AS accounts,
    (SELECT count(*), sum(hashtidextended(ctid, xmin::text::bigint)) AS versions FROM contact_store.account_domains) AS domains
