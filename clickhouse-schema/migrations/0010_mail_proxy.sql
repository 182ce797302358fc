-- Readable form of the mark for image proxies of mail services: flag 65536. A person opened a mail, so the visit
-- counts; address, device and agent are the proxy's, so visitors of one service can't be told apart.
ALTER TABLE ${database}.${events} ADD COLUMN IF NOT EXISTS mail_proxy Bool ALIAS bitTest(flags, 16)
    COMMENT 'Fetched by a mail service for a person who opened a mail; counts' AFTER bot;
