-- Lets a transaction that has just begun see what the one that shared the moment sees.
SET TRANSACTION SNAPSHOT {moment}
