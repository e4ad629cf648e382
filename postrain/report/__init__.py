"""The report of a run of `postrain compare`.

`schema` says what it holds and `check` when it is complete: both are light, for whoever measures.
`output.write_report` and `terminal.print_results` show it; only they load matplotlib, jinja2 and rich.
"""
