"""One offline HTML file that shows what a run did."""
