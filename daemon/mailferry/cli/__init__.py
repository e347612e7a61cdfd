"""The commands: they read options, call the rooms below, and show what came of it.

Each command is a module of its own and knows nothing of how mail is moved. A
command's room is imported when the command runs and not before: the whole daemon
takes about a second to import, and `mailferry version`, `--help` and tab
completion need none of it.
"""
