"""The application on top of the library: data, recipes, training in run folders, evaluation, reports and the command line."""
