"""Other people's servers for tests and benchmarks: throwaway instances on loopback ports, each in a directory of its own.

A peer is a class with
    name                 as it stands in tables
    durable              whether 250 means that the message is on disk
    reason_to_skip()     one line when this machine cannot run it, else None
    Peer(directory, port, ...)  writes its configuration; `start()` answers once it speaks; `stop()` ends it
    address, pid         where it listens, its main process
    messages()           what it delivered, as stored, one `bytes` for each message
    count()              how many these are
    clean()              forgets all mail, outside of any measurement

Everything needs root: these servers change users, and two of them have paths and users built in, for which `jail`
gives them their own view of the file system.
"""
