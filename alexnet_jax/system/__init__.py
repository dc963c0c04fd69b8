"""The machine and the command line; nothing here knows of networks.

command_line       flags and a user's mistakes as one line
config_arguments   --config.key=value, checked before anything is built
processes          several processes of one run: start, agree, take turns
signals            SIGTERM and Ctrl-C
locks              one owner at a time
files              files that are whole or not there
tables             aligned text
tensorflow_log     TensorFlow's announcements, off
compilation_cache  compiled programs are kept between runs
huge_pages         a process is started so that it gets them
"""
