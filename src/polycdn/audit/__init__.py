"""What a service depends on: collected as evidence, drawn as a graph, judged as findings."""
