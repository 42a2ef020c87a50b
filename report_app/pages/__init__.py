"""The pages that people open: the overview of all sites, and the dashboard of a site."""
