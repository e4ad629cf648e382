"""What `posit.testing` and `posit check-sum` are made of: number sets, cases, the search and its report."""
