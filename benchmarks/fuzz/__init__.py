"""Random inputs to the reader, the commands and the API; each must end well or in a `DupqError`.

`python -m benchmarks.fuzz --seconds 120`. An input depends on its kind, the seed and its number alone.
"""
