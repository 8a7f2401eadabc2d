"""polycdn keeps a service up when the company that carries its traffic goes down."""
