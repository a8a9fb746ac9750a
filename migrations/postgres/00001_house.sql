-- The house's first floor. The same tables stand in ../sqlite; a test compares the two.
-- Instants are unix milliseconds, days 'YYYY-MM-DD' in the newsletter's zone; no database clock is ever asked.

-- +goose Up

-- What this database is: 'oldest_binary' is the oldest schema version a binary must know to use it.
CREATE TABLE house (
	key   TEXT NOT NULL PRIMARY KEY,
	value TEXT NOT NULL
);

-- ---- subscribers: who reads, and the proof ------------------------------------------------------------------------

CREATE TABLE subscribers (
	id       BIGINT NOT NULL PRIMARY KEY,
	address  TEXT,           -- as it is mailed (domain as A-labels); NULL once erased
	person   TEXT   NOT NULL, -- keyed HMAC of the address in lower case: outlives it
	language TEXT   NOT NULL,
	nonce    BIGINT NOT NULL, -- in every link; a new one revokes them
	created  BIGINT NOT NULL,
	erased   BIGINT
);
-- One subscriber for a mailbox, beside those that were erased.
CREATE UNIQUE INDEX subscribers_person ON subscribers (person, (CASE WHEN erased IS NULL THEN 0 ELSE id END));

-- A distinct set of a newsletter's topics: readers with the same choice share a row.
CREATE TABLE choices (
	id         BIGINT NOT NULL PRIMARY KEY,
	newsletter TEXT   NOT NULL,
	topics     TEXT   NOT NULL, -- comma-separated, sorted
	UNIQUE (newsletter, topics)
);

-- Who must not be mailed, whoever asks: by HMAC, so that it outlives erasure and meets an import.
CREATE TABLE suppressions (
	person TEXT   NOT NULL PRIMARY KEY,
	reason TEXT   NOT NULL CHECK (reason IN ('bounce', 'complaint', 'objection', 'withdrawal')),
	at     BIGINT NOT NULL,
	detail TEXT   NOT NULL DEFAULT ''
);

-- Words as they were shown or mailed, by content; personal links replaced by a placeholder.
CREATE TABLE wordings (
	hash     TEXT   NOT NULL PRIMARY KEY,
	kind     TEXT   NOT NULL CHECK (kind IN ('form', 'box', 'letter', 'page', 'privacy', 'evidence')),
	language TEXT   NOT NULL,
	text     TEXT   NOT NULL,
	since    BIGINT NOT NULL
);

-- What a person declared or what was mailed to them about it. Append-only. number and chain are the sealer's.
CREATE TABLE consents (
	id          BIGINT NOT NULL PRIMARY KEY,
	subscriber  BIGINT NOT NULL REFERENCES subscribers (id),
	newsletter  TEXT   NOT NULL,
	kind        TEXT   NOT NULL CHECK (kind IN ('requested', 'mailed', 'confirmed', 'changed', 'withdrawn', 'resumed', 'imported', 'erased')),
	at          BIGINT NOT NULL,
	wording     TEXT   REFERENCES wordings (hash),
	person      TEXT   NOT NULL,
	particulars TEXT   NOT NULL, -- SHA-256 of salt and particulars
	number      BIGINT, -- counts from 1
	chain       TEXT    -- HMAC of the link before and of every field above
);
CREATE INDEX consents_subscriber ON consents (subscriber, at);
CREATE INDEX consents_unsealed ON consents (at, id) WHERE number IS NULL; -- not by id alone: that is the order of the table, and all of it would be read
CREATE UNIQUE INDEX consents_number ON consents (number) WHERE number IS NOT NULL;

-- 'unproven' came by import without evidence of consent: never mailed, never asked, kept until the reader signs up or is erased.
CREATE TABLE subscriptions (
	subscriber BIGINT NOT NULL REFERENCES subscribers (id),
	newsletter TEXT   NOT NULL,
	choice     BIGINT NOT NULL REFERENCES choices (id),
	state      TEXT   NOT NULL CHECK (state IN ('pending', 'active', 'ended', 'unproven')),
	requested  BIGINT NOT NULL,
	signed_up  BIGINT,          -- the sign-up that was confirmed: printed in every mail
	consent    BIGINT REFERENCES consents (id), -- the confirmation that allows mailing
	paused     BIGINT,          -- until then; lifted by the run after it
	ended      BIGINT,
	PRIMARY KEY (subscriber, newsletter)
);
CREATE INDEX subscriptions_unconfirmed ON subscriptions (requested)
	WHERE state = 'pending' OR (consent IS NULL AND state <> 'unproven');
CREATE INDEX subscriptions_paused ON subscriptions (paused) WHERE paused IS NOT NULL;

-- What can be deleted without breaking the chain: address, page, network address, server's reply.
CREATE TABLE particulars (
	consent BIGINT NOT NULL PRIMARY KEY REFERENCES consents (id),
	salt    TEXT   NOT NULL,
	body    TEXT   NOT NULL, -- JSON, with the salted hash of the network address
	ip_salt TEXT,            -- NULL once the network address was deleted: it goes before the rest
	ip      TEXT
);

-- Files that were imported, by their content: what a file does not date is as old as its first import, however often it comes.
CREATE TABLE imports (
	hash TEXT   NOT NULL PRIMARY KEY, -- SHA-256 of the file
	at   BIGINT NOT NULL
);

-- One mail outside a digest.
CREATE TABLE letters (
	id         BIGINT NOT NULL PRIMARY KEY,
	subscriber BIGINT NOT NULL REFERENCES subscribers (id),
	newsletter TEXT   NOT NULL,
	kind       TEXT   NOT NULL CHECK (kind IN ('confirm', 'change', 'link', 'data')),
	choice     BIGINT REFERENCES choices (id),
	nonce      BIGINT NOT NULL,
	created    BIGINT NOT NULL,
	expires    BIGINT NOT NULL,
	state      TEXT   NOT NULL CHECK (state IN ('due', 'claimed', 'doubtful', 'sent', 'failed', 'skipped', 'expired')),
	message    TEXT,             -- the mail as first made, links as placeholders: retries are byte-equal; NULL again once settled
	wording    TEXT   REFERENCES wordings (hash), -- its words, kept with the message
	attempts   BIGINT NOT NULL DEFAULT 0,
	due        BIGINT NOT NULL,
	fence      BIGINT NOT NULL DEFAULT 0,
	lease      BIGINT NOT NULL DEFAULT 0,
	settled    BIGINT,
	code       BIGINT NOT NULL DEFAULT 0,
	reply      TEXT   NOT NULL DEFAULT '',
	moves      BIGINT            -- of a change of address: the subscriber whose place its reader takes
);
CREATE INDEX letters_moves ON letters (moves, created) WHERE moves IS NOT NULL;
CREATE INDEX letters_due ON letters (due) WHERE state = 'due';
CREATE INDEX letters_open ON letters (state) WHERE state IN ('claimed', 'doubtful');
CREATE INDEX letters_subscriber ON letters (subscriber, created);

-- Who of the house looked at readers' data, and with which command. No address: a person is a keyed hash.
CREATE TABLE accesses (
	id      BIGINT NOT NULL PRIMARY KEY,
	at      BIGINT NOT NULL,
	who     TEXT   NOT NULL, -- the account on the machine
	command TEXT   NOT NULL,
	person  TEXT   NOT NULL  -- '' where it was the whole list
);

-- A sign-up as it was dropped into the box: kept before the answer, gone as soon as it is decided about.
CREATE TABLE slips (
	id          BIGINT NOT NULL PRIMARY KEY,
	at          BIGINT NOT NULL,
	address     TEXT   NOT NULL, -- as it is mailed
	newsletter  TEXT   NOT NULL,
	choice      BIGINT NOT NULL,
	wording     TEXT   NOT NULL, -- hash of the words shown
	particulars TEXT   NOT NULL, -- JSON, without the address
	moves       BIGINT           -- of a change of address: the subscriber whose place its reader takes
);

-- When a letter was or will be mailed to a person: what the limits count, by HMAC, so that it outlives sign-ups deleted
-- meanwhile. Forgotten after a fortnight.
CREATE TABLE postmarks (
	person TEXT   NOT NULL,
	kind   TEXT   NOT NULL CHECK (kind IN ('confirm', 'change', 'link', 'data')),
	at     BIGINT NOT NULL,
	PRIMARY KEY (person, kind, at)
);
CREATE INDEX postmarks_at ON postmarks (at);

-- How many sign-ups came in a minute (of unix time).
CREATE TABLE arrivals (
	minute BIGINT NOT NULL PRIMARY KEY,
	count  BIGINT NOT NULL
);

-- While one has not ended, no letter is claimed.
CREATE TABLE floods (
	began  BIGINT NOT NULL PRIMARY KEY,
	cause  TEXT   NOT NULL CHECK (cause IN ('arrivals', 'editor')),
	peak   BIGINT NOT NULL, -- sign-ups in its worst minute
	told   BIGINT,          -- when somebody was alerted
	ended  BIGINT,
	lifted BIGINT           -- when an editor ended it
);

-- ---- newsletter: what comes in ----------------------------------------------------------------------------------

-- How the last look at a source ended.
CREATE TABLE sources (
	name          TEXT   NOT NULL PRIMARY KEY,
	etag          TEXT   NOT NULL DEFAULT '',
	last_modified TEXT   NOT NULL DEFAULT '',
	polled        BIGINT,
	succeeded     BIGINT,
	problem       TEXT   NOT NULL DEFAULT ''
);

CREATE TABLE articles (
	id              TEXT   NOT NULL PRIMARY KEY,
	source          TEXT   NOT NULL,
	guid            TEXT   NOT NULL,
	url             TEXT   NOT NULL,
	version         BIGINT NOT NULL,
	title           TEXT   NOT NULL,
	kicker          TEXT   NOT NULL,
	teaser          TEXT   NOT NULL,
	body            TEXT   NOT NULL,
	language        TEXT   NOT NULL,
	place           TEXT   NOT NULL,
	agency          TEXT   NOT NULL,
	author          TEXT   NOT NULL,
	picture_url     TEXT   NOT NULL,
	picture_alt     TEXT   NOT NULL,
	picture_caption TEXT   NOT NULL,
	picture_credit  TEXT   NOT NULL,
	published       BIGINT,
	updated         BIGINT,
	embargo         BIGINT,
	status          TEXT   NOT NULL CHECK (status IN ('usable', 'withheld', 'canceled')),
	urgency         BIGINT NOT NULL,
	first_seen      BIGINT NOT NULL,
	available       BIGINT NOT NULL, -- the later of first_seen and embargo
	withdrawn       BIGINT,
	hash            TEXT   NOT NULL
);
CREATE INDEX articles_available ON articles (available);

-- What makes an article the same article again: its source's id, its address.
CREATE TABLE article_keys (
	key     TEXT NOT NULL PRIMARY KEY,
	article TEXT NOT NULL REFERENCES articles (id) ON DELETE CASCADE
);
CREATE INDEX article_keys_article ON article_keys (article);

-- Kicker (position 0) and categories as they came; the desk's aliases turn them into topics.
CREATE TABLE article_labels (
	article  TEXT   NOT NULL REFERENCES articles (id) ON DELETE CASCADE,
	position BIGINT NOT NULL,
	label    TEXT   NOT NULL,
	PRIMARY KEY (article, position)
);

-- Bounded copies of pictures we may show, delivered from base_url.
CREATE TABLE pictures (
	url    TEXT   NOT NULL PRIMARY KEY,
	hash   TEXT   NOT NULL,
	type   TEXT   NOT NULL,
	width  BIGINT NOT NULL,
	height BIGINT NOT NULL,
	bytes  BYTEA  NOT NULL
);
CREATE INDEX pictures_hash ON pictures (hash);

-- ---- newsletter: what goes out ----------------------------------------------------------------------------------

CREATE TABLE digests (
	id         BIGINT NOT NULL PRIMARY KEY,
	newsletter TEXT   NOT NULL,
	day        TEXT   NOT NULL,
	planned    BIGINT NOT NULL,
	composed   BIGINT NOT NULL, -- also the cut-off: what was available then may be in it
	latest     BIGINT NOT NULL,
	state      TEXT   NOT NULL CHECK (state IN ('empty', 'ready', 'done')),
	revision   BIGINT NOT NULL DEFAULT 1,
	began      BIGINT,          -- the instant its sending began: the Date of its mails
	held       BIGINT,
	silent     BIGINT NOT NULL DEFAULT 0, -- readers none of whose topics had news
	frozen     TEXT   NOT NULL, -- templates, titles, publisher as they were: a digest never reads them again
	UNIQUE (newsletter, day)
);

CREATE TABLE entries (
	digest     BIGINT NOT NULL REFERENCES digests (id),
	newsletter TEXT   NOT NULL,
	article    TEXT   NOT NULL REFERENCES articles (id),
	kind       TEXT   NOT NULL CHECK (kind IN ('news', 'correction')),
	position   BIGINT NOT NULL,
	title      TEXT   NOT NULL,
	html       TEXT   NOT NULL,
	plain      TEXT   NOT NULL,
	hash       TEXT   NOT NULL,
	withdrawn  BIGINT, -- the revision that no longer has it
	PRIMARY KEY (digest, article, kind),
	UNIQUE (newsletter, article, kind)
);
CREATE INDEX entries_article ON entries (article);

CREATE TABLE entry_topics (
	digest  BIGINT NOT NULL,
	article TEXT   NOT NULL,
	kind    TEXT   NOT NULL,
	topic   TEXT   NOT NULL,
	PRIMARY KEY (digest, article, kind, topic),
	FOREIGN KEY (digest, article, kind) REFERENCES entries (digest, article, kind)
);

-- A digest cut to one set of topics: only topics that have news count, so many choices share a variant.
CREATE TABLE variants (
	digest  BIGINT NOT NULL REFERENCES digests (id),
	variant BIGINT NOT NULL,
	topics  TEXT   NOT NULL, -- comma-separated, in the newsletter's order
	PRIMARY KEY (digest, variant),
	UNIQUE (digest, topics)
);

-- Which variant a choice of topics gets; a choice without news has no row.
CREATE TABLE digest_choices (
	digest  BIGINT NOT NULL,
	choice  BIGINT NOT NULL REFERENCES choices (id),
	variant BIGINT NOT NULL,
	PRIMARY KEY (digest, choice),
	FOREIGN KEY (digest, variant) REFERENCES variants (digest, variant)
);

-- One digest for one subscriber, sent in the order in which they are stored, which is that of subscribers and subscriptions,
-- too: a window of them is one stretch of each table. 'doubtful' is written before the final dot leaves and stays until the
-- reply is recorded; fence and take say in whose hands it is: which dispatcher took it, and with which of its commits.
CREATE TABLE deliveries (
	digest     BIGINT NOT NULL REFERENCES digests (id),
	subscriber BIGINT NOT NULL,
	state      TEXT   NOT NULL CHECK ( -- the common ones first: it is asked for every mail
		state = 'doubtful' OR state = 'sent' OR state = 'due' OR state = 'failed' OR state = 'skipped' OR state = 'expired'),
	variant    BIGINT NOT NULL,
	revision   BIGINT NOT NULL DEFAULT 0, -- of the bytes that were sent, 0 before
	attempts   BIGINT NOT NULL DEFAULT 0,
	due        BIGINT,                    -- when it is tried again; NULL: when its turn comes
	fence      BIGINT NOT NULL DEFAULT 0,
	take       BIGINT NOT NULL DEFAULT 0,
	settled    BIGINT,
	code       BIGINT NOT NULL DEFAULT 0,
	reply      TEXT   NOT NULL DEFAULT '', -- the server's words, or why it was skipped
	PRIMARY KEY (digest, subscriber)
) WITH (fillfactor = 45); -- a row is changed twice: with room for that on its page no index learns of it (HOT), and the table ends as large
CREATE INDEX deliveries_again ON deliveries (digest, due) WHERE due IS NOT NULL;

-- A dispatcher at work. One whose lease has ended is dead: its row is deleted, and whatever it does afterwards finds no fence.
CREATE TABLE dispatchers (
	fence   BIGINT NOT NULL PRIMARY KEY,
	host    TEXT   NOT NULL,
	process BIGINT NOT NULL,
	digest  BIGINT NOT NULL, -- which one it is at
	began   BIGINT NOT NULL,
	lease   BIGINT NOT NULL, -- until then it lives
	take    BIGINT NOT NULL DEFAULT 0, -- its last commit: one whose answer was lost is read back here
	sent    BIGINT NOT NULL DEFAULT 0
);

-- How we behave towards the relay (scope '') and towards the servers of a recipient domain. It outlives the process.
CREATE TABLE manners (
	scope  TEXT   NOT NULL PRIMARY KEY,
	next   BIGINT NOT NULL DEFAULT 0, -- before then no message leaves: how a rate is kept
	pause  BIGINT NOT NULL DEFAULT 0, -- until then none leaves: we were asked to stay away
	most   BIGINT NOT NULL DEFAULT 0, -- messages a connection survives, as was found out; 0: not known
	noted  BIGINT NOT NULL DEFAULT 0, -- when it was
	reason TEXT   NOT NULL DEFAULT ''
);

-- What a person decided about a doubtful delivery.
CREATE TABLE decisions (
	digest     BIGINT NOT NULL REFERENCES digests (id),
	subscriber BIGINT NOT NULL,
	at         BIGINT NOT NULL,
	decision   TEXT   NOT NULL CHECK (decision IN ('sent', 'again')),
	person     TEXT   NOT NULL, -- who decided
	PRIMARY KEY (digest, subscriber, at)
);

-- The only way in for planner and dispatcher: those who may be mailed now.
CREATE VIEW audience AS
SELECT s.id AS subscriber, s.address, s.language, s.nonce, p.newsletter, p.choice, p.signed_up
FROM subscriptions p
JOIN subscribers s ON s.id = p.subscriber
WHERE p.state = 'active'
	AND p.consent IS NOT NULL
	AND p.paused IS NULL
	AND s.address IS NOT NULL
	AND NOT EXISTS (SELECT 1 FROM suppressions x WHERE x.person = s.person);

-- The same for letters: a sign-up still waits for this one and nothing was heard against it since; or, for other kinds, the
-- reader may be mailed.
CREATE VIEW correspondence AS
SELECT l.id AS letter, s.id AS subscriber, s.address, s.language, s.nonce
FROM letters l
JOIN subscribers s ON s.id = l.subscriber
JOIN subscriptions p ON p.subscriber = l.subscriber AND p.newsletter = l.newsletter
WHERE s.address IS NOT NULL
	AND (p.ended IS NULL OR p.ended <= l.created)
	AND NOT EXISTS (SELECT 1 FROM suppressions x WHERE x.person = s.person AND x.at >= l.created)
	AND CASE l.kind
		WHEN 'link' THEN p.state = 'active' AND NOT EXISTS (SELECT 1 FROM suppressions x WHERE x.person = s.person)
		WHEN 'data' THEN NOT EXISTS (SELECT 1 FROM suppressions x WHERE x.person = s.person)
		ELSE p.state = 'pending'
			OR (p.state = 'active' AND EXISTS (SELECT 1 FROM suppressions x WHERE x.person = s.person))
	END;

-- +goose StatementBegin
CREATE FUNCTION consents_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND OLD.number IS NULL AND NEW.number IS NOT NULL AND NEW.chain IS NOT NULL
		AND (NEW.id, NEW.subscriber, NEW.newsletter, NEW.kind, NEW.at, NEW.person, NEW.particulars)
			= (OLD.id, OLD.subscriber, OLD.newsletter, OLD.kind, OLD.at, OLD.person, OLD.particulars)
		AND NEW.wording IS NOT DISTINCT FROM OLD.wording THEN
		RETURN NEW;
	END IF;
	RAISE EXCEPTION 'consents are append-only';
END $$;
-- +goose StatementEnd
CREATE TRIGGER consents_sealed BEFORE UPDATE OR DELETE ON consents FOR EACH ROW EXECUTE FUNCTION consents_append_only();
-- +goose StatementBegin
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION '% are append-only', TG_TABLE_NAME;
END $$;
-- +goose StatementEnd
CREATE TRIGGER consents_kept BEFORE TRUNCATE ON consents FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER wordings_unchanged BEFORE UPDATE OR DELETE ON wordings FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER wordings_kept BEFORE TRUNCATE ON wordings FOR EACH STATEMENT EXECUTE FUNCTION append_only();

INSERT INTO house (key, value) VALUES ('oldest_binary', '1');
-- The chain's last link, number and HMAC: whose row is locked is the only sealer.
INSERT INTO house (key, value) VALUES ('ledger_head', '0:');
