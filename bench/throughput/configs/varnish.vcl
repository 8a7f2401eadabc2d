vcl 4.1;

backend origin {
    .host = "127.0.0.1";
    .port = "@origin@";
    .max_connections = 4000;
}

sub vcl_recv {
    if (req.url == "/miss") {
        return (pass);
    }
}
