-- A night changes some of the contacts. With room on its page a row is written anew beside the old one, and none of the three
-- indexes is touched unless a link or an account changes. Pages that are full already get room as their rows change. The price:
-- a first sync fills some pages more, which every night reads.
ALTER TABLE contact_store.contacts SET (fillfactor = 90);
