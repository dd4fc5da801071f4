"""A stand-in for Amazon SES and SNS, over HTTP: takes mail by the API v2, keeps it, and reports what became of it as SES would.

    simulator  the whole, in a thread: `with SesSimulator(rules, options) as ses: …`
    rules      what it does differently, and to whom
    server     HTTP, connection by connection
    api        SendEmail, GetAccount and the like
    signature  whether a call is signed as it should be
    notices    the notices of SES, in both its formats
    fates      which of them a message gets: mailbox-simulator addresses, or a script
    sns        signs notices and sends them to a hook

Also by itself: `python -m tests.fakes.ses_simulator --port 8025 --hook http://127.0.0.1:8400/hooks/ses`.
"""
