"""The demo's questions: what people ask about the standard library, a few on each subject."""

from __future__ import annotations

_BY_SUBJECT = """\
How do I read rows from a csv file as dictionaries?
Why does my csv writer put blank lines or quotes around fields?
How can the csv module guess the dialect and delimiter of a file?
How do I register my own csv dialect?
How do I write a json document with indentation and sorted keys?
How do I make json encode an object of my own class?
What happens when the json decoder meets invalid input?
How do I decode json numbers as decimal instead of float?
How do I add files to a zip archive with compression?
How do I extract one member of a zip archive safely?
How do I list the members of a tar archive without extracting them?
Which filters protect me when I extract a tar archive from the internet?
How do I make a zip or tar archive of a whole directory?
How do I read a gzip file line by line as text?
How do I compress bytes incrementally with lzma or bz2?
Which compressed file formats can be opened in text mode?
How do I create a temporary file that is deleted when it is closed?
How do I create a temporary directory and clean it up?
Where does tempfile put its files, and how do I change the directory?
How do I copy a directory tree and ignore some patterns?
How do I remove a directory tree and handle errors?
How do I move a file to another directory and keep its metadata?
How do I find all files that match a pattern in subdirectories?
How do I walk a directory tree and skip some directories?
How do I rename a path or change its suffix?
How do I resolve a relative path and symbolic links?
How do I read and write the text of a path in one call?
How do I run a subprocess and capture its output?
How do I send input to a subprocess and read its pipes without deadlock?
How do I kill a subprocess after a timeout?
How do I run a subprocess with asyncio and wait for it?
How do I check the exit status of a command that was run?
How do I split a shell command line into arguments and quote them?
How do I submit calls to a thread pool executor and collect results?
How do I cancel a future or wait for the first that is completed?
How do I shut down an executor without waiting for pending futures?
What happens to an exception raised inside a future?
How do I map a function over an iterable with a process pool?
How do I initialize each worker of a process pool?
How do I share memory or a list between processes?
How do I pass objects between processes through a pipe connection?
Which start methods do processes have, and how do I choose the context?
How do I wait on a condition until a predicate becomes true?
What is the difference between a lock and a reentrant lock?
How do I limit the number of threads with a semaphore or a barrier?
How do I start a thread that does not block the exit of the program?
How do I call a function in another thread after a delay?
How do I put items in a queue and wait until all of them are done?
What is raised when a queue is full or empty?
How do I get items from a queue in order of priority?
How do I run several asyncio tasks and gather their results?
How do I set a timeout on an asyncio task and cancel it?
How do I shield an awaitable from cancellation?
How do I run blocking code in a thread from an event loop?
How do I schedule a callback on the event loop after some seconds?
How do I wait on an asyncio event, lock or semaphore?
How do I open a stream connection with asyncio and read until a separator?
How do I start an asyncio server that serves a socket for ever?
How do I write a tcp server that handles each request in a new thread?
How do I set a timeout on a socket and accept connections?
How do I receive exactly n bytes from a socket into a buffer?
How do I send a file over a socket efficiently?
How do I wrap a socket with ssl and verify the certificate of the server?
How do I load a certificate chain and a private key into an ssl context?
How do I turn off host name checking in an ssl context for a test?
How do I send an http request and read the response headers?
How do I keep an http connection open or use a tunnel through a proxy?
How do I write a handler for GET requests with the http server?
How do I send an error or a redirect from an http request handler?
How do I open a url with a timeout and handle http errors?
How do I add headers, a proxy or basic authentication to a url request?
How do I keep cookies between url requests and save them in a file?
How do I set the attributes of a cookie in an http response?
How do I parse a url and join it with a relative url?
How do I quote and unquote the query string of a url?
How do I parse html tags and their attributes?
How do I log in to an smtp server and send a mail message?
How do I start tls on an smtp, imap or ftp connection?
How do I search and fetch messages from an imap mailbox?
How do I read messages from a pop3 server and delete them?
How do I upload and download a file with ftp?
How do I build a multipart mail message with attachments?
How do I read the headers and the payload of a mail message?
How do I add, lock and remove messages in a mailbox file?
How do I rotate log files by size or by time?
How do I send log records to a queue and handle them in another thread?
How do I change the format and the date of log messages?
How do I configure loggers and handlers from a dictionary or a file?
How do I add a filter or extra context to a logger?
How do I send log records over a socket, by mail or to syslog?
How do I log an exception together with its traceback?
How do I add a positional and an optional command line argument?
How do I add subcommands to an argument parser?
How do I make two command line arguments exclude each other?
How do I show default values in the help of an argument parser?
How do I write a custom action or type for a command line argument?
How do I read options from a config file section with defaults?
How do I interpolate values in a config file?
How do I write a config file back and keep the case of its options?
How do I parse a date from an ISO string?
How do I convert a datetime to another time zone?
How do I add a timedelta to a date and compare the results?
How do I format a time with a pattern?
How do I get a time zone by its key and clear the cache?
How do I round a decimal number to two places?
How do I set the precision and the rounding of a decimal context?
Which signals and traps does a decimal context have?
How do I convert a float to a decimal or a fraction exactly?
How do I draw a random sample without replacement or with weights?
How do I generate random numbers from a normal distribution?
How do I generate a secure token or password?
How do I compute the median, the variance and quantiles of data?
How do I fit a linear regression and compute a correlation?
How do I parse an xml document and find elements by path?
How do I iterate over an xml file without loading it all?
How do I write an xml element tree with a declaration and indentation?
How do I create and remove nodes in a dom document?
How do I pickle an object of a class with custom state?
Which pickle protocols exist, and is unpickling safe?
How do I copy an object deeply and control what is copied?
How do I store python objects persistently in a shelf?
How do I write a plist file with dates and bytes?
How do I dump a sqlite database as SQL text?
How do I skip a unit test or expect it to fail?
How do I check in a unit test that an exception or warning is raised?
How do I set up a fixture once for a class of unit tests?
How do I discover and load unit tests from a directory?
How do I replace an object with a mock during a test?
How do I check with which arguments a mock was called?
How do I give a mock a side effect or several return values?
How do I mock an async function or an open file?
How do I format the traceback of an exception as a string?
How do I print the stack of the current frame?
How do I limit the number of entries in a traceback?
How do I write a context manager with a generator?
How do I combine several context managers and close them all?
How do I suppress an exception or redirect standard output?
How do I turn a class into a dataclass with default factories?
How do I make a dataclass frozen or convert it to a dictionary?
How do I define an enum with automatic values or flags?
How do I cache the results of a function with a bounded size?
How do I freeze some arguments of a function with partial?
How do I dispatch a function on the type of its first argument?
How do I get the signature and the parameters of a function?
How do I get the source code or the docstring of an object?
How do I find the members of a class and its resolution order?
How do I count elements and find the most common ones?
How do I keep a mapping with several layers of defaults?
How do I limit the length of a deque and rotate it?
How do I keep a heap and merge sorted inputs?
How do I compare two sequences of lines and print a unified diff?
How do I find close matches of a word in a list?
How do I wrap or shorten a paragraph of text to a width?
How do I remove common indentation from a multiline string?
How do I substitute placeholders in a string template?
How do I print a nested data structure in a readable way?
How do I tokenize Python source code and keep comments?
How do I walk and transform the syntax tree of Python code?
How do I evaluate a literal expression from a string safely?
How do I annotate a type variable, a protocol or a typed dictionary?
How do I get the type hints of a function at run time?
How do I keep a weak reference and call back when the object is gone?
How do I check whether an ip address is in a network?
How do I list all subnets or hosts of a network?
How do I make a random uuid or one from a name?
How do I compute the digest of a file with a given algorithm?
How do I guess the mime type of a file from its name?
How do I read frames and parameters of a wave file?
How do I measure the time of a small code snippet?
How do I set a breakpoint and step through code with the debugger?
How do I write an interactive line command interpreter?
How do I turn a warning into an error or ignore it?
How do I decode bytes with a given encoding and handle errors?
How do I open a file with an encoding and read it in chunks?
How do I translate messages with gettext and set the locale?
How do I wait for several sockets to become readable?
How do I find out the operating system, machine and Python version?
How do I schedule events to run at a given time with priorities?
"""

_AGAIN = (
    (2, "{} Show a short example."),
    (3, "{} Which errors can it raise?"),
    (4, "As above, but with a timeout or a default value: {}"),
)
"""Every n-th question comes again in other words, as popular ones do."""

_STRIDE = 97
"""Spreads the questions on one subject over the whole run, as if many people asked."""


def questions() -> list[str]:
    """Return the questions in their order of arrival, the same each time."""
    once = _BY_SUBJECT.splitlines()
    asked = once + [form.format(text) for every, form in _AGAIN for text in once[::every]]
    return [asked[i * _STRIDE % len(asked)] for i in range(len(asked))]
