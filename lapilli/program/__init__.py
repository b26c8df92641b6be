"""The command line ``lapilli``.

    cli            ``main``: which command it is, and what its errors become
    waiting        how threads wait for each other
    ending         exit statuses, and what a command tells the user
    arguments      what a command takes
    completion     completion of the command line by a shell
    commands       all commands but ``train``
    training_run   ``lapilli train``
    beside         what the first evaluation needs is compiled in a fork meanwhile
    preparing      what a run of training needs, found before it starts
    devices        the devices that are present, and the one that a command uses
    recipes        networks and settings for each data set
    given_network  the network of a user, from a file
    warm           loops that are compiled ahead of time
    tune           limits of density, measured on the processor at hand
    checkpoints    what a run of training writes after each epoch, and reads to go on
    report         the files that a run leaves, report_page the one to look at
    kernel_report  every kernel, compiled and counted; kernel_page the same to look at
    profiling      ``lapilli profile``

The last room: it imports from all others, and none imports from it. torch takes seconds to import,
so a command imports what it needs when it runs. ``args`` is what the command line gave, ``given``
one argument of it, ``kept`` what a checkpoint holds, ``history`` the epochs so far; a ``target`` is
the architecture of a GPU, or for ``check`` what the network is to run on.
"""
