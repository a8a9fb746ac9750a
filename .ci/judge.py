#!/usr/bin/env python3
"""Judges the mails a server accepted, with nothing of depesche's own code.

    judge.py LOG FOLDER READERS KEYFILE...

LOG is rawsink's log, FOLDER holds the accepted messages as NUMBER.eml; a line and a file belong together by their SHA-256.
READERS begins with a line of JSON (newsletter, base_url, domain, digest, revision) and goes on with a line per reader, separated
by tabs: number, address, nonce, day of sign-up (YYYY-MM-DD). KEYFILEs hold the keys.

Every mail must go to one reader and hold nothing of another's: To, Message-ID, List-Unsubscribe, every personal link in both
parts, the day of sign-up. Prints counts and the first violations, readers by number and never by address; ends with 1 if there
are any, with 2 if it cannot judge.
"""

import base64
import collections
import email
import email.utils
import hashlib
import hmac
import html
import json
import multiprocessing
import os
import re
import sys

SHOWN = 10  # violations
BATCH = 200  # mails a worker takes at a time
ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[A-Za-z0-9.-]+[A-Za-z0-9]")
DATE = re.compile(r"\d\d\.\d\d\.\d{4}", re.ASCII)
TOKEN = re.compile(r"(?<![\w-])[\w-]{44}(?![\w-])", re.ASCII)
PURPOSES = ("unsubscribe", "preferences")

Reader = collections.namedtuple("Reader", "number address nonce day")
Accepted = collections.namedtuple("Accepted", "recipients message_id unsubscribe")


class Keys:
    """The secrets of one or more key files."""

    def __init__(self, paths):
        self.tokens, secret = {}, None
        for path in paths:
            with open(path, encoding="ascii", errors="replace") as file:
                for line in file:
                    fields = line.split()
                    if len(fields) == 2 and fields[0] == "address":
                        secret = bytes.fromhex(fields[1])
                    elif len(fields) == 3 and fields[0] == "token":
                        self.tokens[int(fields[1])] = bytes.fromhex(fields[2])
        if secret is None or not self.tokens:
            raise ValueError("the key files hold no address key or no token key")
        # RFC 5869 without salt: extract, then one block of expand.
        extracted = hmac.digest(bytes(32), secret, "sha256")
        self.message_id = hmac.digest(extracted, b"depesche message-id\x01", "sha256")


class Issue:
    """One digest: its settings, its readers and what was accepted of it."""

    def __init__(self, log, folder, readers, keys):
        self.folder, self.keys = folder, keys
        with open(readers, encoding="utf-8") as file:
            self.settings = json.loads(file.readline())
            rows = [line.rstrip("\n").split("\t") for line in file]
        people = [Reader(int(number), address, int(nonce), day) for number, address, nonce, day in rows]
        self.by_address = {reader.address: reader for reader in people}
        self.numbers = {reader.number for reader in people}
        self.accepted = collections.defaultdict(list)  # by SHA-256
        with open(log, encoding="utf-8") as file:
            for line in file:
                _, recipients, message_id, unsubscribe, digest = line.rstrip("\n").split("\t")
                self.accepted[digest].append(Accepted(recipients.split(","), message_id, unsubscribe))
        base = self.settings["base_url"].rstrip("/")
        self.link = re.compile(re.escape(base) + r"/([^\s<>\"']*)")

    def message_id(self, reader):
        parts = (self.settings["digest"], self.settings["revision"], reader.number)
        sealed = hmac.digest(self.keys.message_id, b"".join(big(part) for part in parts), "sha256")
        return "<%s@%s>" % (unpadded(sealed[:16]), self.settings["domain"])

    def opens(self, purpose, token):
        """The number and nonce a token stands for, None where it was not made for this purpose with one of the keys."""
        try:
            raw = base64.urlsafe_b64decode(token)
        except ValueError:
            return None
        if len(raw) != 33 or unpadded(raw) != token or raw[0] not in self.keys.tokens:
            return None
        sealed = raw[:1] + text(purpose) + raw[1:9] + text(self.settings["newsletter"]) + raw[9:17]
        if not hmac.compare_digest(hmac.digest(self.keys.tokens[raw[0]], sealed, "sha256")[:16], raw[17:]):
            return None
        return int.from_bytes(raw[1:9], "big"), int.from_bytes(raw[9:17], "big")

    def judge(self, name):
        """Yields what is wrong with a mail: (reader's number or None, words)."""
        with open(os.path.join(self.folder, name), "rb") as file:
            raw = file.read()
        lines = self.accepted.get(hashlib.sha256(raw).hexdigest())
        if not lines:
            yield None, "is not in the log"
            return
        for accepted in lines:
            if len(accepted.recipients) != 1:
                yield None, "has %d recipients" % len(accepted.recipients)
                continue
            reader = self.by_address.get(accepted.recipients[0])
            if reader is None:
                yield None, "went to somebody who is no reader"
                continue
            for words in self.compare(raw, accepted, reader):
                yield reader.number, words

    def compare(self, raw, accepted, reader):
        mail = email.message_from_bytes(raw)
        yield from self.header(mail, accepted, reader)
        head = "\n".join(str(value) for value in mail.values())
        yield from self.strangers("the header", head, reader)
        parts = mail.get_payload()
        kinds = [part.get_content_type() for part in parts] if mail.is_multipart() else []
        if mail.get_content_type() != "multipart/alternative" or kinds != ["text/plain", "text/html"] or mail.defects:
            yield "is not text and HTML"
            return
        for part in parts:
            words = part.get_payload(decode=True).decode("utf-8")
            name = "the text"
            if part.get_content_type() == "text/html":
                words, name = html.unescape(words), "the HTML"
            yield from self.links(name, words, reader)
            yield from self.strangers(name, words, reader)
            year, month, day = reader.day.split("-")
            if set(DATE.findall(words)) != {"%s.%s.%s" % (day, month, year)}:
                yield "%s does not say the reader's day of sign-up" % name

    def header(self, mail, accepted, reader):
        if any(name in mail for name in ("Cc", "Bcc", "Resent-To")):
            yield "has more recipients in its header"
        to = mail.get_all("To", [])
        if len(to) != 1 or [address for _, address in email.utils.getaddresses(to)] != [reader.address]:
            yield "is addressed (To) to another"
        ids = mail.get_all("Message-ID", [])
        if [value.strip() for value in ids] != [self.message_id(reader)] or accepted.message_id != self.message_id(reader):
            yield "has not the reader's Message-ID"
        lists = [" ".join(value.split()) for value in mail.get_all("List-Unsubscribe", [])]
        if len(lists) != 1 or accepted.unsubscribe != lists[0]:
            yield "has not one List-Unsubscribe, the one in the log"
        for value in lists:
            if len(self.link.findall(value)) != 1:
                yield "has not one link in List-Unsubscribe"
            yield from self.links("List-Unsubscribe", value, reader, PURPOSES[:1])

    def links(self, name, words, reader, wanted=PURPOSES):
        """Every link with a token must be one of the reader's own, and each of the wanted must be there."""
        found = set()
        for path in self.link.findall(words):
            parts = path.split("/")
            if parts[0] not in PURPOSES:
                if TOKEN.search(path):
                    yield "%s has a token in a link for something else" % name
                continue
            if len(parts) != 3 or parts[1] != self.settings["newsletter"]:
                yield "%s has a personal link of another newsletter" % name
                continue
            opened = self.opens(parts[0], parts[2])
            if opened is None:
                yield "%s has a link to %s that opens nothing" % (name, parts[0])
            elif opened != (reader.number, reader.nonce):
                yield "%s has a link to %s of reader %d" % (name, parts[0], opened[0])
            else:
                found.add(parts[0])
        for purpose in wanted:
            if purpose not in found:
                yield "%s lacks the reader's link to %s" % (name, purpose)

    def strangers(self, name, words, reader):
        """Nobody else's address or token, wherever it stands."""
        # The expressions are slow, so they see only words that can hold what they look for.
        candidates = words.split()
        for address in set(ADDRESS.findall(" ".join(word for word in candidates if "@" in word))):
            other = self.by_address.get(address) or self.by_address.get(address.lower())
            if other is not None and other != reader:
                yield "%s has the address of reader %d" % (name, other.number)
        for token in set(TOKEN.findall(" ".join(word for word in candidates if len(word) >= 44))):
            number = int.from_bytes(base64.urlsafe_b64decode(token)[1:9], "big")
            if number in self.numbers and number != reader.number:
                yield "%s has a token of reader %d" % (name, number)


def big(number):
    return number.to_bytes(8, "big")


def text(words):
    raw = words.encode()
    return len(raw).to_bytes(2, "big") + raw


def unpadded(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def judge_batch(names):
    """What is wrong with some mails: (name, reader, words). ISSUE came with the fork."""
    wrong = []
    for name in names:
        try:
            wrong += [(name, number, words) for number, words in ISSUE.judge(name)]
        except (ValueError, LookupError, AttributeError) as error:
            wrong.append((name, None, "cannot be read: %s" % type(error).__name__))
    return wrong


def main(arguments):
    global ISSUE
    if len(arguments) < 4:
        print("usage: judge.py LOG FOLDER READERS KEYFILE...", file=sys.stderr)
        return 2
    log, folder, readers, *keys = arguments
    ISSUE = Issue(log, folder, readers, Keys(keys))
    names = sorted(name for name in os.listdir(folder) if name.endswith(".eml"))
    logged = sum(len(lines) for lines in ISSUE.accepted.values())
    wrong = []
    if len(names) != logged:
        wrong.append((".", None, "%d mails are kept and %d logged" % (len(names), logged)))
    if not names:
        wrong.append((".", None, "there is no mail to judge"))
    batches = [names[i : i + BATCH] for i in range(0, len(names), BATCH)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.imap_unordered(judge_batch, batches):
            wrong += found
    for name, number, words in wrong[:SHOWN]:
        print("judge: %s%s: %s" % (name, "" if number is None else " to reader %d" % number, words))
    print("judge: %d mails to %d readers, %d violations" % (len(names), len(ISSUE.by_address), len(wrong)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
