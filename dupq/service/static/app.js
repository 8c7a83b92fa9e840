// Progressive enhancement of the pages. Every form works without it.
