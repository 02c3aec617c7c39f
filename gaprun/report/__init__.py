"""The report: everything a database holds about its methods, on one HTML page that needs no network."""
