"""The routes, one file a service: each is mountable alone (`…_routes(service) -> APIRouter`)."""
